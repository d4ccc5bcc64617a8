"""``rocketmq_consume``."""
