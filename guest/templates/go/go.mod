module example.com/template-name

go 1.24
