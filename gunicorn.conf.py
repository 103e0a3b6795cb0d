"""How the web process is run; `PORT` and `WEB_CONCURRENCY` are the host's to set."""

import os

# A host that routes to a container reaches it on every interface; a person's machine sets WEB_HOST.
bind = f"{os.environ.get('WEB_HOST', '0.0.0.0')}:{os.environ.get('PORT', '5000')}"  # noqa: S104  # see above
workers = int(os.environ.get("WEB_CONCURRENCY", "2"))
worker_class = "gthread"
threads = int(os.environ.get("WEB_THREADS", "8"))
timeout = 60
graceful_timeout = 30
keepalive = 5
accesslog = None
# By default gunicorn opens a control socket in the home folder, which two stores would share and a
# read-only home refuses.
control_socket_disable = True
