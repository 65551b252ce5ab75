package main

func Example() {
	main()
	// Output:
	// mallory: 550 5.7.1 We do not know you
	// from customer 42
}
