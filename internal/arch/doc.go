// Package arch holds the shape of the house by tests: who may import what, what
// no file may do, that the manual's links lead somewhere, and that it lists each
// reply a client can be given. It has no code of its own.
package arch
