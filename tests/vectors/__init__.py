"""Bytes and rules recorded from the official Java classes, checked case by case."""
