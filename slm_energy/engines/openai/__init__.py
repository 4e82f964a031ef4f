"""Any server that speaks OpenAI's completions protocol.

engine        engine `openai_server`
client        one request
stream        server-sent events
token_times   when each token arrived
command       the words that start a server
process       a started server; `supervise` ends it when its worker is gone
"""
