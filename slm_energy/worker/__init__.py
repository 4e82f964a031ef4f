"""The process that serves a trial, from inside and from its parent.

__main__      inside: the modes of a worker
serving       inside: load, baseline, warm up (`warmup`), serve; `timeline` times the windows
template      inside: a process that has imported the libraries, and forks workers
child         the parent starts a worker and watches it to its end
forkserver    the parent requests workers from a template
interpreters  how a worker is started in this or another Python
"""
