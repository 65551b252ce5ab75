package main

func Example() {
	main()
	// Output:
	// posted: from alice@example.net to [bob@example.org]
}
