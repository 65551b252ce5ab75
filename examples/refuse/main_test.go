package main

func Example() {
	main()
	// Output:
	// ticket-1@example.com, "Help": 550 5.7.1 No mail is accepted here for that domain
	// ticket-2@example.org, "Help": 550 5.1.1 No such ticket
	// ticket-1@example.org, "You have won a PRIZE": 550 5.7.1 We want no prizes
	// ticket-1@example.org, "Help": <nil>
}
