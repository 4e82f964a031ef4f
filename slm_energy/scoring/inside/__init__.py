"""What runs inside the sandbox: standard library only, started by file, never imported by an answer.

wire       messages between the two sides: values as data
guest      runs an answer: defines it, calls it, returns values
judge      runs a task's tests against a guest, and decides
"""
