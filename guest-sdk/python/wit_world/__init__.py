"""The types of `wit/`, as componentize-py generates them. Do not edit: `cargo xtask drivers` compares them."""
