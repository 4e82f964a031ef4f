"""What runs inside the sandbox: standard library only, and no import of the rest of this package.

wire       messages between the two sides: values as data
guest      runs an answer: defines it, calls it, returns values
judge      runs a task's tests against a guest, and decides
"""
