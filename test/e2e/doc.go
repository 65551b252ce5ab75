// Package e2e runs the built daemon as its users do, where its surroundings fail
// it and where somebody sits in front of it. It compiles always and runs when
// INCOMING_E2E is 1. What clients send is package interop's.
package e2e
