"""Administration: each operation once; http.py and cli.py are two faces of them."""
