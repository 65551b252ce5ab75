//go:build race

package deliverytest

// big is less than 50 MB under the race detector, where a client that looks at each
// octet takes minutes for those; it is still more than memory may grow by.
const big = 20_000_000
