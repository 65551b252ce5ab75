module github.com/incoming-mx/incoming

go 1.26
