"""Speed of grocketmq beside a raw-socket floor; ``python -m bench``, explained in ``README.rst``."""
