"""The command ``grocketmq``; needs the extra ``cli``."""
