"""What runs inside the sandbox: standard library only, and no import of the rest of this package.

nursery    makes a process for each answer
guest      runs an answer: defines it, calls it, returns values
judge      runs a task's tests against a guest, and decides
remote     the names and objects of a guest, as the judge sees them
oracle     when two results agree, as EvalPlus judges
wire       messages between the two: values as data
seccomp    the system calls that an answer may make
"""
