"""Does generated code work? After the windows, or later from stored answers.

answer      where an answer ends, and the program that it makes with its prompt
score       programs and tests to verdicts, on several processors, each pair once
verdict     one program and its tests to a verdict
sandbox     processes that code of a model may run in
bubblewrap  what these processes cannot see or do
inside/     what these processes are
"""
