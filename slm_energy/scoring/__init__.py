"""Does generated code work? After the windows, or later from stored answers.

answer      where an answer ends, and the program that it makes with its prompt
score       programs and tests to verdicts, on several processors, each pair once
sandbox     processes that code of a model may run in
inside/     what these processes are
"""
