// Package soak sends mixed load to the built daemon for as long as INCOMING_SOAK
// says (such as 20s or 8h), with clients that hang up in every state, and wants
// its goroutines, descriptors and memory in the end where they began. It compiles
// always and runs when it is asked to. INCOMING_SEED makes a run draw
// what another one drew.
package soak
