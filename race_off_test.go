//go:build !race

package incoming_test

const raceEnabled = false
