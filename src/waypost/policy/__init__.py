"""Who may send to whom, and which recipients an address stands for: decided at RCPT, before anything is routed."""
