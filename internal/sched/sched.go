// Package sched asks the operating system to schedule this process as what it
// is: work that nobody watches. It knows nothing of mail.
package sched

// Batch asks that a thread of this process that wakes does not take the
// processor from one that runs, its own or another program's; it gets the next
// that is free. Linux calls that SCHED_BATCH (sched(7)); elsewhere nothing is
// asked for. Niceness stays, and so does the policy of a process that was
// started with another than the usual one. Programs that this process starts
// from now on begin with the same.
//
// It is for a main function to call, once. When it fails, all is well but
// slower.
//
// A server that answers many connections wakes its threads thousands of times a
// second, for a few microseconds each. With two processors that clients share,
// a quarter more messages come in durably, and 40 % more through the engine
// alone: docs/performance.md.
func Batch() error { return batch() }
