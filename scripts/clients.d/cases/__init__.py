"""What every client is asked to do, one file for each kind of client."""
