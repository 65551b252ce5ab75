//go:build !race

package deliverytest

// big is the octets of the long message.
const big = 50_000_000
