package main

func Example() {
	main()
	// Output:
	// begin: from alice@example.net
	// commit
	// lease: attempt 1
	// ack
}
