"""Packets as retained messages of an MQTT broker."""
