"""A shop with Django: each order that comes in over HTTP is sent as a message, and confirmed by a consumer.

The name server is in the environment variable NAMESRV_ADDR.

Development:  python examples/web/manage.py runserver
Production:   gunicorn -c examples/web/gunicorn.conf.py --chdir examples/web django_shop.site:application
Consumers:    python examples/web/manage.py rocketmq_consume
Use it:       curl -d 'one apple' localhost:8000/orders
"""
