"""The scripts that Redis runs for us, one at a time: what each does, it does at one moment.

KEYS[1] is the prefix. `at` holds "BUCKET:SEQ" of each node, and "BUCKET:" of what is gone; seqs are compared as 20
digits, since numbers of Lua are floats.
"""

from __future__ import annotations

from typing import Final

PUT: Final = """
local root, held = KEYS[1], {}
for i = 1, #ARGV, 4 do
  local bucket, node, seq, packet = ARGV[i], ARGV[i + 1], ARGV[i + 2], ARGV[i + 3]
  local at = redis.call('HGET', root .. 'at', node) or '0000:'
  local was, old = string.sub(at, 1, 4), string.sub(at, 6)
  if seq > old then
    if bucket == '' then bucket = was end
    if old ~= '' and was ~= bucket then redis.call('HDEL', root .. was, node) end
    redis.call('HSET', root .. bucket, node, packet)
    redis.call('HSET', root .. 'at', node, bucket .. ':' .. seq)
    redis.call('ZADD', root .. 'changes', redis.call('INCR', root .. 'revision'), node)
  elseif seq == old and redis.call('HGET', root .. was, node) == packet then
    old = '=' .. old
  end
  held[#held + 1] = old
end
redis.call('PUBLISH', root .. 'stirred', '')
return held
"""
FORGET: Final = """
local root, done = KEYS[1], {}
for i = 1, #ARGV, 2 do
  local at = redis.call('HGET', root .. 'at', ARGV[i]) or '0000:'
  local was, old = string.sub(at, 1, 4), string.sub(at, 6)
  done[#done + 1] = 0
  if old ~= '' and old <= ARGV[i + 1] then
    redis.call('HDEL', root .. was, ARGV[i])
    redis.call('HSET', root .. 'at', ARGV[i], was .. ':')
    redis.call('ZADD', root .. 'changes', redis.call('INCR', root .. 'revision'), ARGV[i])
    done[#done] = 1
  end
end
redis.call('PUBLISH', root .. 'stirred', '')
return done
"""
GET: Final = """
local at = redis.call('HGET', KEYS[1] .. 'at', ARGV[1])
return at and redis.call('HGET', KEYS[1] .. string.sub(at, 1, 4), ARGV[1])
"""
CHANGES: Final = """
local root, told = KEYS[1], {redis.call('GET', KEYS[1] .. 'revision') or '0'}
local found = redis.call('ZRANGE', root .. 'changes', '(' .. ARGV[1], '+inf', 'BYSCORE', 'LIMIT', 0, ARGV[2],
  'WITHSCORES')
for i = 1, #found, 2 do
  local bucket = string.sub(redis.call('HGET', root .. 'at', found[i]) or '0000:', 1, 4)
  told[#told + 1] = {found[i], found[i + 1], bucket, redis.call('HGET', root .. bucket, found[i])}
end
return told
"""
