package main

func Example() {
	main()
	// Unordered output:
	// ticket 4711: "Hello."
	// for the books: Invoice für März
	// new from alice@example.net: Help!
}
