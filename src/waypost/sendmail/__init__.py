"""What programs call `sendmail`. Only the standard library is imported to take a message: it starts for each one."""
