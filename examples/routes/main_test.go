package main

func Example() {
	main()
	// Output:
	// desk: support+7@example.org
	// books: bob@example.org
	// archive: bob@example.org bob@example.org
}
