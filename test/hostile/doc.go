// Package hostile keeps the built daemon busy with clients that mean it no good,
// thousands that send an octet now and then and a flood of connections from one
// address, and measures what a well-behaved client notices of it. It compiles
// always and runs when INCOMING_HOSTILE asks it to: "full" with the numbers that
// the project promises, "short" with few, for which only being served counts.
package hostile
