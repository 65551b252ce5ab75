// Package fuzz fuzzes: it finds every fuzz target of the module and runs them one
// after another, each for as long as INCOMING_FUZZ says (such as 10m). It compiles
// always and runs when it is asked to. What a target is about, it says itself; its
// seeds run with all other tests.
package fuzz
