"""What :mod:`grocketmq.contrib.locust` is made of."""
