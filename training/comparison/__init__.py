"""The comparison of regularizers: which runs there are, how they are measured, what is said of them."""
