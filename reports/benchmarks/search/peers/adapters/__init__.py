"""One file for each tool: its searches behind `Peer`. A child process imports only the file that it needs."""
