// Package sched asks the operating system to schedule this process as what it
// is: work that nobody watches. It knows nothing of mail.
package sched

// Batch asks that a thread of this process that wakes does not take the
// processor from one that runs, its own or another program's, but waits its
// turn; others still take it from ours. Linux calls that SCHED_BATCH (sched(7));
// elsewhere nothing is asked for. Niceness stays; a time slice that was set by
// hand does not. A thread that has another policy than the usual one keeps it.
// Programs that this process starts from now on begin with the same policy.
//
// It is for a main function to call, once, before it starts much. When it fails,
// some threads may have it and others not: all is well, but slower.
// docs/performance.md has what it gains.
func Batch() error { return batch() }
