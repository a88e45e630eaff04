"""What a gateway loads of a network must stay light."""

import subprocess
import sys


def test_the_client_does_not_load_what_only_networks_need():
    heavy = "[m for m in ('sklearn', 'lmdb', 'scipy') if m in sys.modules]"
    code = f"import sys, regional.client, regional.packets.packet; print({heavy})"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "[]"
