"""GraphQL in and out: types, resolvers, subscriptions, the HTTP application and its composition root."""
