"""Settings and assets: what an operator or a policy owner changes. No Faust and no Kafka in here."""
