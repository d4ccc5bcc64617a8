"""Tests against real RocketMQ brokers, started from the released jars."""
