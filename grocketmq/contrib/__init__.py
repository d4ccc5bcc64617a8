"""Small adapters to what people run: servers, web frameworks, load tests, metrics.  Each needs its package installed."""
