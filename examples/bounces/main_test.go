package main

func Example() {
	main()
	// Output:
	// newsletter-7: never again to gone@example.net: 550 5.1.1 No such user
	// newsletter-7: full@example.net is delayed (4.2.2)
}
