package main

func Example() {
	main()
	// Output:
	// is there an account guess@example.org?
	// guess: 550 5.1.1 No such recipient here
	// guess: 550 5.1.1 No such recipient here
	// is there an account bob@example.org?
	// for [Bob+shop@example.org bob@example.org 7@tickets.example.org]
}
