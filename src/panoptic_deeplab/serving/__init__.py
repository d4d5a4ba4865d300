"""A service over HTTP and its web page: `panoptic-deeplab serve`. What a prediction is, other rooms say.

    browser, curl ─▶ app.py ─▶ pool.py: one queue ─▶ worker.py, N processes with a copy of the weights each
                     limits, problems, metrics       decode ─▶ network ─▶ post-processing ─▶ answers.py

One process speaks HTTP and computes nothing; so limits, metrics and the queue are in one place and hold for all
workers together, and a worker that dies over an image is replaced while the service goes on.

settings.py  what `serve` is told      options.py   query parameters ─▶ `Options`
problems.py  errors as problem+json    prometheus.py  metrics          logs.py  a line of JSON for each request
jobs.py      what goes to a worker     app.py       paths
envelope.py  ids, log and metrics around every request
page/        the web page: HTML, CSS and JavaScript as they are

With `--static` the visitor's browser predicts, and nothing of the above but page/ and the envelope takes part:

static_site.py  page, models and runtime as a folder    static_app.py  that folder over HTTP
web_runtime.py  onnxruntime-web, pinned                 browser/       images, results and pictures in JavaScript
"""
