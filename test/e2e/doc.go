// Package e2e runs the built daemon as its users do, with real clients, and
// looks at what arrives. It compiles always and runs when INCOMING_E2E is 1. It
// wants swaks, curl and Python 3: a client that is not there is a test skipped,
// and with CI set a test failed.
package e2e
