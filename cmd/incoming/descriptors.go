package main

import (
	"fmt"
	"syscall"
)

// otherDescriptors is how many files the daemon may have open beside its
// connections: the spool, messages coming in, deliveries, tools.
const otherDescriptors = 200

// fewDescriptors says that the process may open fewer files than that many
// connections take; "" when it may open enough. Negative is no limit: then the
// process's own is the only one.
func fewDescriptors(connections int) string {
	var may syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_NOFILE, &may); err != nil {
		return "" // nobody knows: it shows when they run out
	}
	if connections < 0 || may.Cur >= uint64(connections)+otherDescriptors {
		return ""
	}
	return fmt.Sprintf("limits.connections is %d, but the process may open %d files only; past that clients are told 421; "+
		"raise its limit (ulimit -n, LimitNOFILE) to %d or lower limits.connections", connections, may.Cur, connections+otherDescriptors)
}
