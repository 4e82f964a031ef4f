"""The command line: one file a verb.

main          the verbs, `--help`, `--version`, exit codes
words         what all verbs' parsers share: errors of one line, KEY=VALUE, Hydra's own flags
key_help      the keys that a verb's `--help` explains
console       the terminal; paths and keys that can be pasted into a shell
registration  what `--register` adds to the verb `plan`

Every other file is a verb and has `SUMMARY`, `configure(parser)` and `run(arguments)`. What a verb
needs beyond its options is imported when it runs, so that `--help` stays fast.
"""
