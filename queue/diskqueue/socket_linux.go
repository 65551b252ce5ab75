package diskqueue

// maxSocketPath is the longest path that fits the address of a socket.
const maxSocketPath = 107
