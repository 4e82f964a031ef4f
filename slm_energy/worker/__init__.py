"""The process that serves a trial, from inside and from its parent.

__main__      inside: what a worker is asked to do
serving       inside: load, baseline, warm up (`warmup`), serve; `timeline` times the windows
template      inside: a process that has imported, and forks workers
child         the parent starts a worker and stays with it to its end
forkserver    the parent asks a template for workers
interpreters  how a worker is started in this or another Python
"""
