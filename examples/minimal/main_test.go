package main

func Example() {
	main()
	// Output:
	// from alice@example.net: Lunch?
}
