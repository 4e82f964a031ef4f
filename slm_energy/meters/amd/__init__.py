"""AMD GPUs through amdsmi: opening them (`meter`), what each offers (`channels`)."""
