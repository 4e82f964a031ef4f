"""Any server that speaks OpenAI's completions protocol.

engine        engine `openai_server`
client        requests to a server, and the checks of its answers
stream        one streamed completion over HTTP
token_times   token ids with time stamps from a stream
withheld      the tokens that a server does not show where it stops
command       the command that starts a server
process       a started server
server_log    what its log says
running       a server that runs already
listener      the processes behind a port of this machine
process_table trees of processes, their processor time and open files
supervise     ends a started server when its worker is gone
"""
